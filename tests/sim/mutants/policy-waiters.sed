# a policy's limit of waiters is not kept to
/^static.* \**lpi_waiters_refusal(/,/^}/ s/lpi_channel_policy(hub, ch)->waiters_max/hub->policy.waiters_max/
