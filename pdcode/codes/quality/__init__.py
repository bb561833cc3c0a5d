"""How good a code is: bounds, spark, information, captured energy."""
