void weft_a(void)
{
	fprintf(stderr, "oops");
}
