"""A sweep that runs elsewhere: as a Ray job over http, or as a RayJob of KubeRay.

Nothing of it trains here: the job runs the same command on the cluster's head.
"""
