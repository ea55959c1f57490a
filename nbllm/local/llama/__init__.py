"""llama.cpp's own things, in the processes that run it; llama_cpp is imported nowhere else."""
