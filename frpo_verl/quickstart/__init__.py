"""What the quickstart needs: generated arithmetic problems and a tiny Qwen-architecture model warmed up on them."""
