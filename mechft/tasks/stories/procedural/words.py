"""The words an instruction asks for: a verb, a noun and an adjective, in the form they have in the story."""

from __future__ import annotations

import random
import re

from mechft.tasks.stories.procedural.templates import listed, pick

# Only words that are of one kind wherever these stories have them: "fight" and "well" are left out.
VERBS = listed(
    "agreed, asked, bake, baked, became, believed, blew, broke, brought, build, called, came, "
    "catch, choose, clapped, climb, count, cried, cut, danced, draw, eat, fed, feed, fell, find, "
    "fix, flew, fly, followed, forget, forgot, found, gave, go, grew, guessed, heard, helped, "
    "hid, hung, jump, jumped, knew, know, laughed, landed, lay, leaned, learned, led, let, "
    "liked, listen, lived, look, looked, lost, loved, met, moved, nodded, opened, pet, pick, "
    "plant, play, played, pulled, pushed, ran, reach, read, ride, roll, rolled, sang, sat, saw, "
    "share, shared, shook, shouted, show, sing, slid, smelled, smiled, soaked, stayed, stepped, "
    "stood, stopped, stung, swim, take, talked, taught, tell, thanked, think, thought, told, "
    "took, tore, touch, turned, waited, walk, walked, want, wanted, watched, won, yelled, sleep, "
    "slept, stop"
)
NOUNS = listed(
    "actor, animal, apple, arm, badger, bag, baker, ball, barn, basket, beach, bear, beaver, "
    "bed, bee, bees, bell, bench, bike, bird, birthday, blanket, board, boat, book, books, bowl, "
    "box, boy, branch, bread, bridge, broom, bucket, bugs, bush, cake, candle, car, card, "
    "castle, cat, cave, chair, cheese, cherries, chick, chicks, church, clock, clothes, clouds, "
    "clown, coat, coins, cook, cookies, cow, cows, crack, crash, crocodile, crow, crown, crumbs, "
    "cup, curtain, cushion, dancer, deer, dinner, dirt, doctor, dog, doll, donkey, door, "
    "doorstep, dragon, drum, duck, duckling, ducks, dust, eagle, egg, eyes, face, farmer, feast, "
    "fence, field, fire, fisherman, floor, flower, flowers, flute, food, forest, fox, friend, "
    "friends, frog, garden, gardener, gate, girl, goat, goose, grass, hammock, hands, hat, hay, "
    "hedge, hedgehog, hen, hill, hills, hole, honey, horse, house, hug, hut, ideas, jacket, jar, "
    "joy, jug, key, king, kitchen, kite, kitten, knee, knees, knots, ladder, lake, lamb, lambs, "
    "lamp, leg, lemonade, lid, lighthouse, lizard, magician, market, mayor, medal, milk, "
    "milkman, mill, miller, mole, monkey, moment, morning, mother, mountains, mouse, mud, music, "
    "necklace, nest, news, night, noise, nose, nurse, nuts, oak, orchard, otter, oven, owl, "
    "painter, pair, paper, parrot, path, peace, pencil, penguin, picnic, picture, pie, pig, "
    "pillow, pirate, pizza, place, plate, playground, plums, pocket, pond, pony, porch, postman, "
    "pot, presents, prince, prize, problem, pudding, puddles, puppy, puzzle, quarrel, rabbit, "
    "raccoon, race, ribbon, ring, river, road, robot, rock, rocks, roof, rope, runners, sailor, "
    "sand, sandwich, scarf, scooter, sea, shed, sheep, shelf, shell, shells, shepherd, "
    "shoemaker, shovel, singer, skin, sled, smoke, snail, snake, socks, song, songs, soup, "
    "squirrel, stable, stairs, stars, stick, stone, stones, storm, stories, stranger, stream, "
    "suitcase, sun, swan, swing, table, tailor, tea, teacher, tears, tent, toes, tower, toy, "
    "toys, tracks, train, trap, tree, trees, truth, turkey, turtle, umbrella, valley, village, "
    "wagon, wall, water, waterfall, wheel, wheels, whistle, wind, windmill, window, winner, "
    "winter, wolf, woods"
)
ADJECTIVES = listed(
    "angry, bad, big, black, blue, brave, bright, broken, brown, busy, careful, cheerful, "
    "clever, cold, cozy, cool, crooked, curious, dark, dreamy, dry, eager, empty, fair, fine, "
    "foggy, friendly, funny, gentle, glad, golden, grey, happy, heavy, high, hidden, hungry, "
    "ill, kind, little, lonely, loyal, lovely, low, merry, muddy, narrow, neat, new, old, "
    "painted, pink, playful, polite, pretty, proud, purple, quiet, red, sad, sandy, scared, "
    "shiny, shy, silly, silver, small, smooth, soft, steep, stony, strange, strong, sunny, tall, "
    "tame, terrible, thin, tiny, tired, torn, ugly, warm, weak, wet, white, wide, wild, winding, "
    "windy, wooden, worst, yellow, young"
)

_KIND = {word: kind for kind, words in enumerate((VERBS, NOUNS, ADJECTIVES)) for word in words}
_WORD = re.compile(r"\b[a-z]+\b")


def draw_words(rng: random.Random, text: str) -> tuple[str, str, str]:
    """A verb, a noun and an adjective of the text, which has all three if it is a story of this package."""
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for word in dict.fromkeys(_WORD.findall(text)):
        kind = _KIND.get(word)
        if kind is not None:
            found[kind].append(word)
    verbs, nouns, adjectives = found
    return pick(rng, verbs), pick(rng, nouns), pick(rng, adjectives)
