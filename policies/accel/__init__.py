"""Makes decisions faster without training anew."""
