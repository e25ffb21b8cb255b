"""The routers' decisions, compiled: functions over plain arrays, called by the simulator's loops and by live routers."""
