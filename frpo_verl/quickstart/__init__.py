"""What the quickstart needs: generated sums, and a tiny Qwen-architecture model warmed up on them."""
