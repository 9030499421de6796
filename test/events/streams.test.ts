import t, { type Test } from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { Feed, type FeedOptions } from '../../src/events/feed.ts'
import { serveFeed } from '../helpers/feed-server.ts'
import { Subscriber } from '../helpers/subscriber.ts'
import { taskOf } from '../helpers/tasks.ts'

async function agentOf (t: Test, options: Partial<FeedOptions>): Promise<{ feed: Feed, follow: (from?: string) => Subscriber }> {
  const feed = new Feed({ instance: 'here', snapshot: () => [], ...options })
  const port = await serveFeed(t, feed, '127.0.0.1')
  return { feed, follow: from => new Subscriber({ host: '127.0.0.1', port }, '/', from === undefined ? {} : { from }) }
}

t.test('one stream too many is told to come later, and its place is free when another leaves', async t => {
  const { feed, follow } = await agentOf(t, { maxStreams: 2 })
  const [first, second] = [follow(), follow()]
  await Promise.all([first.event('synced'), second.event('synced')])
  const third = follow()
  await third.ended
  t.equal(third.response?.statusCode, 200)
  t.equal(third.response?.headers['agent-instance'], 'here')
  t.same(third.frames, [{ retry: 30000 }, { event: 'busy', data: { limit: 'streams', maximum: 2 } }])
  t.match(feed, { subscribers: 2, opened: 2, refused: 1 })
  first.close()
  while (feed.subscribers === 2) await turn()
  await follow().event('synced')
})

t.test('no address takes all the places', async t => {
  const { feed, follow } = await agentOf(t, { maxStreams: 10, maxStreamsPerAddress: 2 })
  const [first] = await Promise.all([follow('a'), follow('a'), follow('b')].map(async subscriber => { await subscriber.event('synced'); return subscriber }))
  const busy = follow('a')
  await busy.ended
  t.same(busy.frames, [{ retry: 30000 }, { event: 'busy', data: { limit: 'streamsPerAddress', maximum: 2 } }])
  await follow('b').event('synced')
  await follow().event('synced')
  first?.close()
  while (feed.subscribers === 5) await turn()
  await follow('a').event('synced')
})

t.test('everybody gets the same bytes, whatever came between their turns', async t => {
  const { feed, follow } = await agentOf(t, {})
  const subscribers = Array.from({ length: 50 }, () => follow())
  await Promise.all(subscribers.map(subscriber => subscriber.event('synced')))
  for (let revision = 0; revision < 500; revision++) {
    feed.transition(taskOf({ id: 'a', revision }))
    if (revision % 7 === 0) await turn()
  }
  const ends = await Promise.all(subscribers.map(subscriber => subscriber.until(({ id, event }) => event === 'task' && id === 'here-500')))
  t.equal(ends.length, 50)
  for (const { frames } of subscribers) t.same(frames.slice(1), subscribers[0]?.frames.slice(1))
})

t.test('who comes while the feed is closing, or later, is told so', async t => {
  const { feed, follow } = await agentOf(t, {})
  await feed.close()
  const late = follow()
  await late.ended
  t.same(late.frames, [{ event: 'bye', data: { reason: 'stopping' } }])
  await feed.close()
})

t.test('an idle feed keeps no timer', async t => {
  const { feed, follow } = await agentOf(t, {})
  const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  const before = timers()
  const subscriber = follow()
  await subscriber.event('synced')
  subscriber.close()
  while (feed.subscribers > 0) await turn()
  t.ok(timers() <= before)
})
