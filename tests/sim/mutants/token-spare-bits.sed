# bits of base64url that stand for nothing may be anything
# found by tests/unit/token.c
/^static long lpi_base64url_decode(/,/^}/ s/return bits \& ((1u << count) - 1) ? -1/return bits > UINT32_MAX - 1 ? -1/
