"""Real mail servers for tests: started on loopback addresses of their own, asked what arrived, stopped.

Each server runs from a small root directory unpacked from the distribution's packages (`images`), so that
nothing is installed on the machine and any number of copies, of servers that could never be installed side
by side, run at once. `rooms` lays out one such directory and sees to it that every process and file of it
goes away again, also when the test run itself is killed.
"""
