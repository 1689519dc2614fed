"""The evaluation protocol: predictions and labels in, scores with their uncertainty out; knows no data set.

``confusion`` metrics of a confusion matrix, ``trimap`` the same near object borders, ``evaluator`` collects
both image by image, ``significance`` bootstraps them, ``predict`` makes, writes and reads label maps.
"""
