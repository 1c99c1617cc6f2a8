# a poll waits on when its token has ended
/^static void lpi_poll_arm(/,/^}/ s/ends_ms <= loop->now_ms + wait_ms/ends_ms < wait_ms/
