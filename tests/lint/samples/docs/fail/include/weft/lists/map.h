WEFT_MAP(A, "weft_a", x)
WEFT_MAP(B, "weft_b", x)
