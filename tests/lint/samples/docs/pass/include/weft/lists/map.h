WEFT_MAP(A, "weft_a", x)
