"""Selection as a multiple-choice knapsack: problem, engines, checker."""
