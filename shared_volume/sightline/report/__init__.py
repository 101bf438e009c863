"""The toolkit of the reports: a page that needs no network, inline SVG charts, and drawn pictures within a size budget."""
