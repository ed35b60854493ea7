"""What keeps a run of ours from waiting for ever or saving rubbish; each file begins with what in verl would end its need."""
