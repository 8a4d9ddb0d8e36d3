"""A model of one's own: two linear layers, and a Gaussian fitted on the codes."""

import torch

from bench import GenerativeModel


class TinyAutoencoder(GenerativeModel):
    """Linear autoencoder with a Gaussian prior on its codes."""

    family = "autoencoder"

    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.encoder = torch.nn.Linear(space.dimensions, 32)
        self.decoder = torch.nn.Linear(32, space.dimensions)
        self.register_buffer("mean", torch.zeros(32))
        self.register_buffer("scale", torch.eye(32))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)

    def train_step(self, batch, progress):
        loss = (self.decoder(self.encoder(batch.x.flatten(1))) - batch.x.flatten(1)).square().mean()
        self.descend(loss, self.optimizer)  # zero_grad, backward, step
        return {"mse": loss.detach()}

    def fit_prior(self, loader):
        codes = torch.cat([self.encoder(batch.x.flatten(1)) for batch in loader])
        self.mean.copy_(codes.mean(0))
        self.scale.copy_(torch.linalg.cholesky(codes.T.cov() + 1e-4 * torch.eye(32, device=codes.device)))

    def sample(self, n, generator, **options):
        codes = self.mean + generator.randn(32) @ self.scale.T
        return self.decoder(codes).view(n, *self.space.shape)
