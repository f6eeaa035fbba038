"""Numbers in Simplified Chinese: ``5,000``, as scripts in the browser write them too."""

NUMBER_GROUPING = 3
THOUSAND_SEPARATOR = ","
