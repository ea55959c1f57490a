"""Downloads of models: Hugging Face's hub and https addresses. httpx and huggingface_hub."""
