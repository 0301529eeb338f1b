"""What a cell looks like in words: attributes such as the nucleus' shape."""
