"""How fast it is: the loop, the stages of a frame, runtimes, boards, archives."""
