"""A model's Markdown as HTML that can do nothing: no scripts, no requests, no forms."""
