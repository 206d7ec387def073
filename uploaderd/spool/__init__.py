"""The spool: what lies in a watched folder, when something happens there, and after-care.

Reading order: beneath, tree, walk, lease, mounts; ignore, notices, lookout, watcher; naming,
renaming, carrying, claims, filing.
"""
