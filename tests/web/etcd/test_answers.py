"""JSON as etcd writes it."""

from viewstamp.services.store.types import Event, KeyValue
from viewstamp.web.etcd.answers import encoded_keys, event, key_value, message

ITEM = KeyValue(b"a", b"\xff", 5, 7, 2, 9)


def test_integers_are_texts_bytes_are_base64_and_zeros_are_left_out() -> None:
    said = message(a=1, b=0, c=True, d=False, e=b"\xff", f=b"", g="x", h="", i=[], j={}, k=None)
    assert said == {"a": "1", "c": True, "e": "/w==", "g": "x", "j": {}}


def test_a_key_is_shown_with_its_revisions() -> None:
    shown = {"key": "YQ==", "value": "/w==", "version": "2", "lease": "9"}
    assert key_value(ITEM) == {**shown, "create_revision": "5", "mod_revision": "7"}
    assert "value" not in key_value(ITEM, keys_only=True)


def test_a_put_has_no_type_and_a_deletion_has_the_key_and_the_revision_alone() -> None:
    assert event(Event(b"a", ITEM), 7) == {"kv": key_value(ITEM)}
    assert event(Event(b"a", None, ITEM), 8) == {
        "type": "DELETE",
        "kv": {"key": "YQ==", "mod_revision": "8"},
        "prev_kv": key_value(ITEM),
    }


def test_keys_in_a_list() -> None:
    assert encoded_keys([b"a", b"\xff"]) == ["YQ==", "/w=="]
