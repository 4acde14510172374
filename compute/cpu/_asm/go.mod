module dunlin/compute/cpu/asm

go 1.26.0
