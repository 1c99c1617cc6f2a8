# what is too much to be kept beyond a gap is forgotten
# found by tests/unit/redis.c
/^static void lpi_remote_keep_early(/,/^}/ s/if (!\*at || (\*at)->seq != m->seq) lpi_remote_reopen(hub, index);//
