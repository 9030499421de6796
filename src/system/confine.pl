# Restricts its own process, then becomes the program that it is given. setpriv, prlimit and a setpriv with --landlock
# (util-linux 2.41) would be three programs, and could not try which user may open the files.
# In perl, because every Debian has it (perl-base), and it makes any system call without a compiler. It loads no module:
# so it starts about as fast as setpriv.
#
# perl confine.pl ARCH PARENT FALLBACK PROGRAM-OPTIONS -- program [argument ...]
#   ARCH        as process.arch of Node says it
#   PARENT      the process that the program must not outlive; 0 for none
#   FALLBACK    without Landlock: "bwrap" starts this again in a mount namespace, "none" goes on without, "inside" is there
#   read=N      the program may open /proc/self/fd/N to read it
#   write=N     and this one to write it, too
#   user=U:G:G,G:C   whom it becomes: user, group, more groups, and the one capability that it keeps, if any. Without U,
#               it stays who it is. Of several, the first who can open all the files; one with a capability only where
#               it can open nothing else.
#   limit=R:V:H a resource limit: its number, its value, and how far it may be raised: no further, without H
#   env=K=V     a variable of the program's environment only
#   mkdir=MODE:NAME makes a directory in that which descriptor 3 is, instead of starting a program; prints errno if it cannot
#   report      prints what restricts the program, instead of starting it
#
# The system calls are documented in landlock(7), seccomp(2), capabilities(7), prctl(2).

my %calls = (
  #         prctl  setgroups setresgid setresuid capset prlimit seccomp's arch  socket connect io_uring_setup
  x64   => [157,   116,      119,      117,      126,   302,    0xc000003e,     [41, 42, 425]],
  arm64 => [167,   159,      149,      147,      91,    261,    0xc00000b7,     [198, 203, 425]],
  ppc64 => [171,   81,       170,      164,      184,   325,    0xc0000015,     [326, 328, 425]],
  s390x => [172,   206,      210,      208,      185,   334,    0x80000016,     [359, 362, 425]],
);
my ($arch, $parent, $fallback) = splice @ARGV, 0, 3;
my ($PRCTL, $SETGROUPS, $SETRESGID, $SETRESUID, $CAPSET, $PRLIMIT, $auditArch, $denied) =
  @{$calls{$arch} || fail("this kind of machine is not known: $arch")};
# the same everywhere
my ($CREATE_RULESET, $ADD_RULE, $RESTRICT_SELF) = (444, 445, 446);

my @arguments = @ARGV;
my (@users, @limits, @read, @write, $report, $mkdir);
while (defined(my $option = shift @ARGV)) {
  last if $option eq '--';
  my ($key, $value) = split /=/, $option, 2;
  if ($key eq 'read') { push @read, $value + 0 }
  elsif ($key eq 'write') { push @write, $value + 0 }
  elsif ($key eq 'user') { push @users, $value }
  elsif ($key eq 'limit') { push @limits, [map { $_ + 0 } split /:/, $value] }
  elsif ($key eq 'env') { my ($name, $text) = split /=/, $value, 2; $ENV{$name} = $text }
  elsif ($key eq 'mkdir') { $mkdir = $value }
  elsif ($key eq 'report') { $report = 1 }
  else { fail("unknown option $option") }
}

sub fail { print STDERR "confine: $_[0]\n"; exit 126 }
sub prctl { my @a = @_; return syscall($PRCTL, @a, (0) x (5 - @a)) }

my $abi = $fallback eq 'inside' ? 0 : syscall($CREATE_RULESET, 0, 0, 1);
my $restricts = $abi >= 1 ? 'landlock' : $fallback eq 'none' ? 'none' : 'mount-namespace';
enterMountNamespace() if $restricts eq 'mount-namespace' && $fallback eq 'bwrap' && !defined $mkdir;

prctl(38, 1) == 0 or fail("no_new_privs: $!");
become(choose()) if @users;
if ($parent > 0) {
  # after the change of user, which clears it
  prctl(1, 9) == 0 or fail("pdeathsig: $!");
  exit 125 if getppid() != $parent;
}
makeDirectory(split /:/, $mkdir, 2) if defined $mkdir;
for (@limits) {
  my ($resource, $value, $hard) = @$_;
  syscall($PRLIMIT, 0, $resource, pack('QQ', $value, $hard // $value), 0) == 0 or fail("limit $resource: $!");
}
my $program = $report ? '' : find($ARGV[0]);
landlock() if $restricts eq 'landlock';
seccomp();
if ($report) {
  print "$restricts\n";
  exit 0;
}
exec { $program } @ARGV;
fail("cannot execute $ARGV[0]: $!");

sub find {
  my ($name) = @_;
  my @found = $name =~ m{/} ? ($name) : grep { -f $_ && -x _ } map { "$_/$name" } split /:/, $ENV{PATH};
  return $found[0] if @found;
  print STDERR "confine: not found: $name\n";
  exit 127;
}

# With the owner that it is to have, from the first moment: whoever changes that later must know that nobody has put
# something else in its place.
sub makeDirectory {
  my ($mode, $name) = @_;
  umask 0;
  exit 0 if mkdir "/proc/self/fd/3/$name", $mode;
  print $! + 0, "\n";
  exit 1;
}

# The first user who can open the files; the last one without a trial. A trial takes a process: there is no way back.
sub choose {
  my @candidates = grep { $restricts ne 'none' || !(split /:/)[3] } @users;
  while (@candidates > 1) {
    my $pid = fork;
    defined $pid or fail("fork: $!");
    if ($pid == 0) {
      become($candidates[0]);
      for (@read) { sysopen(my $file, "/proc/self/fd/$_", 0) or exit 1 }
      for (@write) { sysopen(my $file, "/proc/self/fd/$_", 2) or exit 1 }
      exit 0;
    }
    waitpid $pid, 0;
    last if $? == 0;
    shift @candidates;
  }
  return $candidates[0];
}

# Another user, or root without root's rights. no_new_privs keeps them away also from root's programs.
sub become {
  my ($uid, $gid, $groups, $capability) = split /:/, $_[0];
  my @groups = map { $_ + 0 } split /,/, $groups;
  my $kept = length($capability // '') ? 1 << $capability : 0;
  # where the agent may not do that, no_new_privs alone keeps them away
  for (0 .. 40) { prctl(24, $_) unless $kept >> $_ & 1 }
  prctl(47, 4);
  prctl(8, 1) if $kept;
  if ($uid ne '') {
    my $list = pack('L*', @groups, 0);
    syscall($SETGROUPS, scalar @groups, $list) == 0 or fail("groups $groups: $!");
    syscall($SETRESGID, $gid + 0, $gid + 0, $gid + 0) == 0 or fail("group $gid: $!");
    syscall($SETRESUID, $uid + 0, $uid + 0, $uid + 0) == 0 or fail("user $uid: $!");
  }
  my ($header, $sets) = (pack('Ll', 0x20080522, 0), pack('L6', $kept, $kept, $kept, 0, 0, 0));
  syscall($CAPSET, $header, $sets) == 0 or fail("capabilities: $!");
  prctl(47, 2, $capability + 0) == 0 or fail("capability $capability: $!") if $kept;
}

# Nothing can be opened but the files that were given, by their inodes, and what a program needs to run.
sub landlock {
  my $access = (1 << ($abi >= 5 ? 16 : $abi >= 3 ? 15 : $abi == 2 ? 14 : 13)) - 1;
  my $set = syscall($CREATE_RULESET, $abi >= 6 ? pack('QQQ', $access, 3, 3) : $abi >= 4 ? pack('QQ', $access, 3) : pack('Q', $access),
    $abi >= 6 ? 24 : $abi >= 4 ? 16 : 8, 0);
  $set >= 0 or fail("landlock: $!");
  my ($execute, $write, $read, $list, $truncate) = (1, 2, 4, 8, 1 << 14);
  my $allow = sub {
    my ($fd, $rights) = @_;
    syscall($ADD_RULE, $set, 1, pack('Ql', $rights & $access, $fd), 0) == 0 or fail("landlock, descriptor $fd: $!");
  };
  my $allowPath = sub {
    my ($path, $rights) = @_;
    # O_PATH, O_CLOEXEC; what is not there needs no rule
    sysopen(my $file, $path, 010000000 | 02000000) or return;
    $rights &= ~$list unless -d $file;
    $allow->(fileno $file, $rights);
  };
  $allowPath->($_, $execute | $read | $list) for qw(/usr /lib /lib64);
  $allowPath->($program, $execute | $read) if $program ne '';
  # the loader's; what the C library asks of huge pages and processors; what gnutls and openssl are set up by
  $allowPath->($_, $read) for qw(/etc/ld.so.cache /etc/ld.so.preload /proc/meminfo /dev/urandom
    /etc/ssl/openssl.cnf /etc/pki/tls/openssl.cnf);
  $allowPath->($_, $read | $list) for qw(/sys/devices/system /sys/kernel/mm /etc/gnutls /etc/crypto-policies);
  $allowPath->('/dev/null', $read | $write);
  $allow->($_, $read) for @read;
  $allow->($_, $read | $write | $truncate) for @write;
  syscall($RESTRICT_SELF, $set, 0) == 0 or fail("landlock: $!");
}

# No socket of any kind: Landlock knows none of unix. No io_uring either, which would get round this.
sub seccomp {
  my $loadArch = pack('SCCL', 0x20, 0, 0, 4);
  my $loadNumber = pack('SCCL', 0x20, 0, 0, 0);
  my $deny = pack('SCCL', 0x06, 0, 0, 0x00050000 | 38); # ENOSYS
  my $allow = pack('SCCL', 0x06, 0, 0, 0x7fff0000);
  my $count = @$denied + 1;
  my @checks = map { pack('SCCL', 0x15, $count - 1 - $_, 0, $denied->[$_]) } 0 .. $#$denied;
  # the other calling conventions of a machine have numbers of their own: none of their calls is allowed
  my $filter = $loadArch . pack('SCCL', 0x15, 0, $count + 2, $auditArch) . $loadNumber .
    pack('SCCL', 0x35, $count, 0, 0x40000000) . join('', @checks) . $allow . $deny;
  # a kernel without seccomp goes without
  prctl(22, 2, pack('Sx6P', length($filter) / 8, $filter));
}

sub enterMountNamespace {
  my @bind = map { ('--ro-bind-try', $_, $_) } qw(/usr /lib /lib64 /bin /sbin /etc/ld.so.cache /sys/devices/system /sys/kernel/mm);
  # not --unshare-net, for which bubblewrap would have to be allowed to set up a network: there are no sockets anyway
  exec 'bwrap', '--die-with-parent', '--unshare-pid', '--unshare-ipc', @bind, '--dev', '/dev', '--proc', '/proc',
    '--ro-bind', $0, '/confine.pl', '--', $^X, '/confine.pl', $arch, 0, 'inside', @arguments;
  fail("cannot execute bwrap: $!");
}
