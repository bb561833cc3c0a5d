"""Quality measures of codes: bounds, spark, information, captured energy."""
