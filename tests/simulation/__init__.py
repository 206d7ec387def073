"""A simulated world around the real engine, core and journal; one seed decides everything.

Reading order: loop, clock, trace (virtual time and what is told of it); scenario (what a seed
chooses); service, network (the service and the way to it); disk, spool, filing, producers (the
watched folder and who writes there); life (one run of the process, and its death); world (all
of it together); invariants (what must hold in the end); run (many seeds).
"""
