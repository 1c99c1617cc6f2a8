/* Makes signed tokens, which the library only reads. After longpoll.h. */

#ifndef TOKEN_H
#define TOKEN_H

enum { TOKEN_ROOM = 8192 };

static const char token_secret[] = "a secret of thirty-two bytes, or";
static const char token_header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";

/* Base64url without padding. Returns its end, where a NUL stands. */
static char *token_encode(char *to, const char *bytes, size_t length)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t bit, bits = length * 8;
    for (bit = 0; bit < bits; bit += 6) {
        uint32_t two = (uint32_t)(uint8_t)bytes[bit / 8] << 8;
        if (bit / 8 + 1 < length) two |= (uint8_t)bytes[bit / 8 + 1];
        *to++ = digits[two >> (10 - bit % 8) & 63];
    }
    *to = 0;
    return to;
}

/* Write the token to `to`, which has TOKEN_ROOM bytes, and return that. */
static char *token_sign(char *to, const char *secret, const char *header,
                        const char *payload)
{
    lpi_hmac key;
    char mac[LPI_SHA256_BYTES], *at = token_encode(to, header, strlen(header));
    *at++ = '.';
    at = token_encode(at, payload, strlen(payload));
    lpi_hmac_init(&key, lp_s(secret));
    lpi_hmac_of(&key, lpi_slice_to(to, at), mac);
    *at++ = '.';
    token_encode(at, mac, sizeof mac);
    return to;
}

#endif
