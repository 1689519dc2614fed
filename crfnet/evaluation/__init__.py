"""Evaluation: predictions and labels in, scores with their uncertainty out; knows no data set.

``confusion`` metrics of a confusion matrix, ``trimap`` the same near object borders (grown by ``dilation``),
``boundary`` Boundary IoU and boundary F-score, ``evaluator`` counts all of them image by image,
``image_counts`` keeps the counts in a file, ``bootstrap`` resamples them, ``named_metrics`` finds a
metric by its name, ``csv_tables`` writes them per image and per class, ``label_folders`` evaluates two
folders of PNGs, ``inference`` makes label maps: on several scales, mirrored, in tiles.
"""
