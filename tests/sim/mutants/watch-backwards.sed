# the news of channels are told the last first
/^static.* lpi_hub_news(/,/^}/ s/index = hub->news.head;/index = hub->news.tail;/
