# the news of channels are told the last first
/^static.* \**lpi_hub_next_news(/,/^}/ s/news\.head/news.tail/
