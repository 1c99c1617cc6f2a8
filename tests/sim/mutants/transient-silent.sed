# a text that is gone is passed without a word
/^static.* \**lpi_reply_pass_mark(/,/^}/ s/if (!at->reason && !at->fresh)/if (0)/
