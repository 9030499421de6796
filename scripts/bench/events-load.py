"""Subscribers and publisher of `events.mjs`, in a process of their own. Prints one line of JSON.

One in twenty connections is a probe: it is read as soon as something arrives, and gives the latency. The others are
read in turn, each ten times a second. That costs a tenth of what reading at once would, and the server cannot tell.
"""
import argparse
import json
import resource
import select
import socket
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument('--port', type=int, required=True)
parser.add_argument('--pid', type=int, required=True, help='the server process that is measured')
parser.add_argument('--subscribers', type=int, required=True)
parser.add_argument('--rate', type=float, required=True, help='events per second')
parser.add_argument('--seconds', type=float, required=True)
parser.add_argument('--ready', default='', help='what a subscriber has read when it is subscribed')
options = parser.parse_args()

marker = b'"specDigest":"'
probe_every = 20
drain_period = 0.1
address = ('127.0.0.1', options.port)


def cpu_seconds():
    with open(f'/proc/{options.pid}/stat') as stat:
        fields = stat.read().rsplit(')', 1)[1].split()
    return int(fields[11]) / 100, int(fields[12]) / 100


def resident_kib():
    with open(f'/proc/{options.pid}/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmRSS'))


def task(sent_ns):
    """A task as callers see it, of the size that most have. The time of sending takes the place of the digest."""
    return json.dumps({
        'id': 'nightly-42', 'runId': '019aa8a2-5f3e-7cc4-8a53-0a5b7d3f2f10', 'kind': 'storage.copyImage',
        'spec': {'kind': 'storage.copyImage', 'source': {'domain': 'local', 'image': 'sample.raw'}, 'target': {'domain': 'local', 'image': 'copy.qcow2'}, 'verify': True},
        'specDigest': f'{sent_ns:064d}', 'state': 'running', 'cancelable': True,
        'progress': {'phase': 'copying', 'bytesTotal': 10737418240, 'bytesDone': 5368709120, 'bytesPerSecond': 104857600, 'etaSeconds': 51},
        'createdAt': '2026-01-01T00:00:00.000Z', 'startedAt': '2026-01-01T00:00:00.120Z', 'revision': 1, 'tick': 42, 'instance': '5f0c9f1e'
    }, separators=(',', ':')).encode()


def subscribe():
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b'GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n')
    return connection


def read_until_ready(connection):
    text = b''
    while options.ready.encode() not in text or b'\r\n\r\n' not in text:
        part = connection.recv(65536)
        if not part:
            sys.exit('a subscriber was turned away')
        text += part
    connection.setblocking(False)


class Reader:
    """Counts events; a marker may be cut in two by the end of a part."""
    def __init__(self, connection):
        self.connection = connection
        self.rest = b''
        self.events = 0

    def read(self, latencies=None):
        try:
            part = self.connection.recv(1 << 20)
        except BlockingIOError:
            return
        now = time.monotonic_ns()
        if not part:
            sys.exit('a subscriber was cut off')
        text = self.rest + part
        begin = 0
        while latencies is not None:
            found = text.find(marker, begin)
            if found < 0 or found + len(marker) + 64 > len(text):
                break
            begin = found + len(marker) + 64
            latencies.append(now - int(text[found + len(marker):begin]))
            self.events += 1
        if latencies is None:
            self.events += text.count(marker)
            begin = max(0, len(text) - len(marker) + 1)
        else:
            # a time that is cut in two is looked for again
            begin = max(begin, text.find(marker, begin) if text.find(marker, begin) >= 0 else len(text) - len(marker) + 1)
        self.rest = text[begin:]


before_kib = resident_kib()
readers = []
for batch in range(0, options.subscribers, 100):
    connections = [subscribe() for _ in range(min(100, options.subscribers - batch))]
    for connection in connections:
        read_until_ready(connection)
    readers += [Reader(connection) for connection in connections]
time.sleep(1)
after_kib = resident_kib()

probes = readers[::probe_every]
others = [reader for index, reader in enumerate(readers) if index % probe_every != 0]
poll = select.epoll()
by_fd = {}
for probe in probes:
    by_fd[probe.connection.fileno()] = probe
    poll.register(probe.connection.fileno(), select.EPOLLIN)
publisher = socket.create_connection(address)
publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
publisher.setblocking(False)
poll.register(publisher.fileno(), select.EPOLLIN)

total = round(options.rate * options.seconds)
latencies = []
published = 0
drained = 0
own_before = resource.getrusage(resource.RUSAGE_SELF)
cpu_before = cpu_seconds()
begin = time.monotonic()
deadline = begin + 3 * options.seconds + 5
while True:
    now = time.monotonic()
    if published < total and now >= begin + published / options.rate:
        body = task(time.monotonic_ns())
        publisher.sendall(b'POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-EventSource-Event: task\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
        published += 1
    for fd, _ in poll.poll(0.001):
        if fd in by_fd:
            by_fd[fd].read(latencies)
        else:
            publisher.recv(65536)
    # what is due by now, in small parts: a probe must not wait long
    due = min(int((time.monotonic() - begin) / drain_period * len(others)) - drained, 64)
    for _ in range(due):
        others[drained % len(others)].read()
        drained += 1
    if published == total and len(latencies) == total * len(probes):
        for reader in others:
            reader.read()
        if all(reader.events == total for reader in others):
            break
        time.sleep(0.02)
    if time.monotonic() > deadline:
        break
elapsed = time.monotonic() - begin
user, system = (after - before for before, after in zip(cpu_before, cpu_seconds()))
cpu = user + system
own = resource.getrusage(resource.RUSAGE_SELF)
delivered = sum(reader.events for reader in readers)
latencies.sort()


def percentile(part):
    return latencies[min(len(latencies) - 1, int(part * len(latencies)))] / 1e6


print(json.dumps({
    'delivered': delivered,
    'lost': total * len(readers) - delivered,
    'cpuMicros': cpu / delivered * 1e6,
    'systemShare': system / cpu,
    'p50': percentile(0.5),
    'p99': percentile(0.99),
    'kibPerSubscriber': (after_kib - before_kib) / len(readers),
    'serverLoad': cpu / elapsed,
    'loadLoad': (own.ru_utime + own.ru_stime - own_before.ru_utime - own_before.ru_stime) / elapsed
}))
