"""The line between the notebook's process and the processes that run llama.cpp: both ends."""
