# fields are taken for those of the last head though they differ behind the X-Client-ID
/^static.* lpi_alike_but(/,/^}/ s/memcmp(text.bytes + n, like.bytes + like.length - tail, tail))/0)/
