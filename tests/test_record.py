"""Measurement is a float that keeps what it means; records survive a round trip through JSON."""

import copy
import json
import math
import pickle

import numpy as np
import pytest

from bench.record import Measurement, MeasurementFields, Record, fields_of


def test_behaves_as_a_float():
    fid = Measurement(3.5, name="fid", low=3.0, high=4.0, n=100, unit="1", direction="lower")
    assert fid == 3.5
    assert fid + 1 == 4.5
    assert f"{fid:.2f}" == "3.50"
    assert np.isclose(np.mean([fid, fid]), 3.5)
    assert sorted([fid, 1.0]) == [1.0, fid]
    assert (fid.value, fid.low, fid.high, fid.n, fid.unit, fid.direction) == (3.5, 3.0, 4.0, 100, "1", "lower")


def test_survives_pickle_copy_and_dict():
    fid = Measurement(3.5, name="fid", low=3.0, high=4.0, n=100, unit="x", direction="lower", interval="t", note="w")
    for other in (pickle.loads(pickle.dumps(fid)), copy.deepcopy(fid), Measurement.from_dict(fid.to_dict())):
        assert other.to_dict() == fid.to_dict()
    assert fid.replace(value=1.0, note=None).to_dict() == {**fid.to_dict(), "value": 1.0, "note": None}


def test_refuses_half_and_inverted_intervals():
    with pytest.raises(ValueError, match="both ends"):
        Measurement(1.0, name="x", low=0.5)
    with pytest.raises(ValueError, match="upside down"):
        Measurement(1.0, name="x", low=2.0, high=0.0)


def test_ends_that_are_no_numbers_are_left_out_and_it_is_said():
    for low, high in ((math.nan, math.nan), (-math.inf, 3.0)):
        found = Measurement(1.0, name="x", low=low, high=high, interval="t")
        assert (found.low, found.high, found.interval) == (None, None, None)
        assert found.note == "no interval: its ends are no finite numbers"


def test_formats_as_a_float():
    assert f"{Measurement(1.5, name='x', low=1, high=2)} {Measurement(1.5, name='x'):.2f}" == "1.5 1.50"


def test_not_finite_becomes_null_with_a_note():
    fields = fields_of(Measurement(math.nan, name="x", low=0, high=math.inf), "cost", "p")
    assert (fields.value, fields.low, fields.high) == (None, None, None)
    assert fields.note == "not a finite number"


def test_record_is_one_strict_json_line():
    record = Record(
        trial="abc",
        suite="s",
        dataset="d",
        model="m",
        seed=0,
        status="complete",
        started="2026-01-01T00:00:00+00:00",
        budget={"steps": 3},
        config={},
        measurements=[MeasurementFields(name="x", value=1.25, unit="MiB")],
        scoring={},
        environment="e",
        provenance={},
    )
    line = record.to_line()
    assert "\n" not in line
    json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} in JSON"))
    assert Record.model_validate_json(line) == record
    assert record.get("x") == 1.25
    assert record.get("x").unit == "MiB"
    with pytest.raises(KeyError):
        record.get("y")


def test_every_field_of_the_schema_is_documented():
    for model in (Record, MeasurementFields):
        properties = model.model_json_schema()["properties"]
        assert all(field.get("description") for field in properties.values()), properties
