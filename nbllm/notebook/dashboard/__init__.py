"""The dashboard: models, devices, running requests and a playground, live, in core ipywidgets."""
