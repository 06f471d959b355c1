"""Every package that a training run or a command imports; the server of forks reads this file."""
