# An attacker who may write to a domain, and may do nothing else: exchanges whatever is in it for traps and back, again and
# again, and plants traps under names that are about to be used. A trap is a link to a file or a directory outside, a hard
# link of a file outside, or a directory of such links.
#
#   perl exchange.pl ARCH COUNT SEED DOMAIN OUTSIDE
#
# Ends after COUNT exchanges, or when standard input ends; prints how many there were of each name. NAMES, IMAGES and VOLUMES
# in the environment are names that the agent is going to use, with commas between.
use strict;

my %numbers = (x64 => 316, arm64 => 276, ppc64 => 357, s390x => 347);
my ($arch, $count, $seed, $domain, $outside) = @ARGV;
my $RENAMEAT2 = $numbers{$arch} or die "the number of renameat2 is not known for $arch\n";
my ($AT_FDCWD, $NOREPLACE, $EXCHANGE) = (-100, 1, 2);
my ($names, $images, $volumes) = map { [split /,/, $ENV{$_} // ''] } qw(NAMES IMAGES VOLUMES);
srand $seed;

my $place = "$domain/.traps";
mkdir $place or die "$place: $!\n";
my (%exchanged, %planted);
my ($total, $made) = (0, 0);

sub exchange { return syscall($RENAMEAT2, $AT_FDCWD, $_[0], $AT_FDCWD, $_[1], $EXCHANGE) == 0 }
sub pick { return $_[rand @_] }

sub makeFile {
  my ($path) = @_;
  return rand() < 0.5 ? symlink("$outside/secret.raw", $path) : link("$outside/linked.raw", $path);
}

sub makeTrap {
  my ($isFolder) = @_;
  my $path = "$place/" . $made++;
  my $kind = rand;
  return makeFile($path) ? $path : undef if $kind < ($isFolder ? 0.1 : 0.8);
  return symlink("$outside/folder", $path) ? $path : undef if $kind < ($isFolder ? 0.7 : 0.9);
  mkdir $path or return undef;
  symlink "$outside/folder", "$path/$_" for qw(copies leases parts hosts images);
  makeFile("$path/$_") for 'domain.json', @$names, @$volumes;
  return $path;
}

sub removeAll {
  my ($path) = @_;
  removeAll($_) for -l $path ? () : entries($path);
  unlink $path or rmdir $path;
}

sub entries {
  my ($folder) = @_;
  opendir(my $handle, $folder) or return ();
  return map { "$folder/$_" } grep { !/^\.\.?$/ } readdir $handle;
}

# all that there is; links of traps are not followed
sub paths { return map { my $path = $_; $path eq $place ? () : ($path, -l $path ? () : paths($path)) } entries($_[0]) }

# what the agent is going to make in a folder, or beside a file
sub planned {
  my ($path) = @_;
  return ("$path.new") if $path =~ m{/copies/[^/]*\.json$};
  return ("$path.meta.new", "$path.meta", "$path.lease") if $path =~ m{/images/[^/]*/[0-9a-f-]{36}$};
  return map { ("$path/$_.json", "$path/$_.json.new") } @$names if $path =~ m{/copies$};
  return map { "$path/$_" } @$names if $path =~ m{/leases$};
  return map { "$path/lease-$_" } @$volumes if $path =~ m{/parts$};
  return map { "$path/$_" } @$images if $path eq "$domain/images";
  return map { "$path/$_" } @$volumes if $path =~ m{/images/[0-9a-f-]{36}$};
  return $path eq $domain ? map { "$path/$_" } @$names : ();
}

# as short as an open or a rename, or as long as a program takes to start
sub pause { select undef, undef, undef, rand() < 0.5 ? rand 0.0005 : rand 0.01 }

sub plant {
  my ($path) = @_;
  makeFile($path) or return;
  my $inode = (lstat $path)[1];
  $planted{$path =~ s{^.*/}{}r =~ s{^[0-9a-f-]{36}}{*}r}++;
  pause();
  # something else may have its name by now
  unlink $path if $inode == ((lstat $path)[1] // 0);
}

my $input = '';
vec($input, 0, 1) = 1;
sub over { return $total >= $count || select(my $ready = $input, undef, undef, 0) }

# One path after the other, each many times: then a trap is there half of the time.
while (!over()) {
  my $path = pick($domain, paths($domain));
  my @planned = planned($path);
  for (1 .. @planned ? 1 + rand 10 : 0) { plant(pick(@planned)) unless over() }
  next if $path eq $domain;
  for (1 .. 1 + rand 30) {
    my $trap = over() || !-e $path ? undef : makeTrap(-d _);
    last unless defined $trap;
    if (exchange($path, $trap)) {
      $total++;
      $exchanged{$path =~ s{^\Q$domain\E/}{}r =~ s{[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}}{*}gr}++;
      pause();
      # where the agent has removed the trap, there is nothing to exchange it for
      exchange($path, $trap) or syscall($RENAMEAT2, $AT_FDCWD, $trap, $AT_FDCWD, $path, $NOREPLACE);
    }
    removeAll($trap);
    pause();
  }
}
removeAll($place);
print "$total exchanges\n", map({ "  $exchanged{$_} of $_\n" } sort keys %exchanged), map { "  $planted{$_} planted as $_\n" } sort keys %planted;
