/* printf is not for us */
int weft_a(void)
{
	return weft_buf_printf("stderr");
}
