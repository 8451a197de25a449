"""The tests' own tools against published vectors: no lab needed."""

from packets import Handoff, Key, Tuple, checksum, hkdf_sha256, ipv4, siphash24, tcp


def test_siphash_of_the_paper():
    # Aumasson and Bernstein, "SipHash: a fast short-input PRF", appendix A.
    assert siphash24(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


def test_hkdf_of_rfc_5869():
    # Appendix A.3: SHA-256 with zero-length salt and info.
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert hkdf_sha256(b"\x0b" * 22, b"", 42).hex() == expected


def test_checksums_verify():
    packet = ipv4("10.50.0.11", "10.60.0.100", 6, tcp("10.50.0.11", "10.60.0.100", 1, 80, 7, 9, "PA", data=b"odd"))
    assert checksum(packet[:20]) == 0


def test_header_has_its_size():
    handoff = Handoff(base_seq=1, base_ack=2, generation=3, issued=4)
    assert len(handoff.header_for(Tuple("10.50.0.11", 1, "10.60.0.100", 80), Key(1, bytes(16)))) == 56
