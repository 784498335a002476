static int helper(void)
{
	return 1;
}

int weft_a(void)
{
	return helper();
}
