/* A store that is elsewhere, whose part the test plays by the hub's own calls, without Redis and
   without a connection: what is published is appended here, but a poll of a channel cannot be
   judged before store_load() has told the channel's state. */

#ifndef STORE_H
#define STORE_H

/* Channels that are made from now on are stored elsewhere. */
static void store_open(lpi_hub *hub)
{
    while (lpi_hub_add_stores(hub, 1)) {} /* memory may fail at random */
    lpi_hub_store_up(hub, 0);
    hub->stores[0].scan = LPI_NONE;
    hub->stores[0].scan_ms = UINT64_MAX;
    hub->stores[0].opens = LPI_OPENS_MAX; /* so that the loop does not look for work */
    hub->stores[0].left.failed = 1;       /* nor for channels that were forgotten */
}

/* Forget what the channels would have been sent: the tests know what they wait for. */
static void store_forget_work(lpi_hub *hub)
{
    lpi_hub_store *store = &hub->stores[0];
    while (store->first != LPI_NONE) {
        lpi_remote *r = lpi_channel_at(hub, store->first)->remote;
        store->first = r->next_work;
        r->queued = 0;
    }
}

/* Does anybody wait to be told the channel's state? */
static int store_is_fetching(const lpi_channel *ch)
{
    const lpi_remote *r = ch->remote;
    return r && (r->state != LPI_LIVE || (int32_t)(r->opens_wanted - r->opens_done) > 0);
}

/* The channel's state has come: it is what stands in its ring. */
static void store_load_channel(lpi_hub *hub, uint32_t index, uint64_t now)
{
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_remote *r = ch->remote;
    lpi_opened opened;
    memset(&opened, 0, sizeof opened);
    opened.epoch = ch->epoch;
    opened.last = ch->last;
    opened.last_us = ch->last_us;
    opened.birth_us = ch->start_us;
    opened.held = ch->held;
    if (ch->held) opened.first_us = ch->ring[ch->ring_at]->timestamp_us;
    store_forget_work(hub);
    r->known = 1;
    r->connection = hub->stores[0].connection;
    r->state = LPI_OPENING;
    r->opens_sent = r->opens_done = r->opens_wanted + 1;
    lpi_remote_opened(hub, index, &opened, now);
}

#endif
