"""The one interpreter: it makes happen what ``core`` decides, and writes it down first.

Reading order: context (what it works with), engine (the loops), intake and settling (from the
spool to the queue), transfer, senders and calls (the parts), assembling (complete, and the
uncertain complete), aftercare (receipt and move), janitor (abandoned sessions), view (what the
status socket shows).
"""
