"""The comparison of the five arms and what several commands share: run folders, cost, builders."""
