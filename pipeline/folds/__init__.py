"""Which ground trains, which ranks candidates, which nothing looks at before the score."""
