# a token for publishing is wanted, and any other will do
# found by tests/unit/hooks.c
/^static.* \**lpi_config_check_publish(/,/^}/ s/cfg->publish_token || cfg->token_secret;/cfg->publish_token || cfg->token_secret || cfg->admin_token;/
