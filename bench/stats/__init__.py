"""All statistics, free of torch: times, accuracy, fronts."""
