"""The evaluation protocol: predictions and labels in, scores with their uncertainty out; knows no data set.

``confusion`` metrics of a confusion matrix, ``trimap`` the same near object borders (grown by ``dilation``),
``boundary`` Boundary IoU and boundary F-score, ``evaluator`` counts all of them image by image, ``records``
keeps the counts, ``significance`` bootstraps them, ``measures`` names what can be bootstrapped, ``tables``
writes them per image and per class, ``folders`` evaluates two folders of PNGs, ``predict`` makes, writes and
reads label maps, ``protocols`` says how images are given to a network.
"""
