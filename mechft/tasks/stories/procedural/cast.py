"""Who a story is about and where they live: the slots that have nothing to do with its features."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mechft.tasks.stories.procedural.templates import listed, pick, with_article

GIRLS = listed(
    "Lily, Mia, Anna, Emma, Sue, Lucy, Ella, Amy, Zoe, Nora, Sara, Jane, Kate, Molly, Ruby, "
    "Clara, Ada, Maya, Bella, Nina, Tina, Julia, Laura, Sophie, Alice, Jenny"
)
BOYS = listed(
    "Tom, Ben, Tim, Max, Sam, Jack, Leo, Dan, Finn, Noah, Adam, Bob, Paul, Luke, Owen, Theo, "
    "Nick, Hugo, Jim, Oscar, Peter, Billy, Eli, David, Henry, Felix"
)
SHE_ANIMALS = listed("Poppy, Hazel, Coco, Lulu, Mimi, Bibi, Willow, Fifi, Tilly, Lotta")
HE_ANIMALS = listed("Pip, Rolo, Bobo, Gus, Benny, Rusty, Milo, Otto, Toby, Muffin")
SPECIES = listed(
    "rabbit, fox, bear, mouse, squirrel, hedgehog, frog, duck, kitten, puppy, raccoon, beaver, "
    "mole, lamb"
)
CHARACTERS = listed(
    "little, brave, kind, clever, shy, cheerful, curious, quiet, gentle, playful, silly, funny, "
    "friendly, careful, polite, young, merry, busy, small, loyal, eager, dreamy"
)
HOUSES = listed(
    "small, cozy, red, yellow, old, white, blue, tiny, green, warm, wooden, pretty, crooked, "
    "low, neat, bright"
)
PLACES = listed(
    "near the woods, by the river, by the sea, on a hill, at the edge of the forest, "
    "next to a field, behind the mill, near a pond, at the end of a long road, "
    "in a quiet village, close to the mountains, beside a lake, in the middle of a valley, "
    "not far from the market, under tall trees, by the old church"
)
HOBBIES = listed(
    "sing, dance, run, draw, climb trees, read, jump over puddles, look at the stars, "
    "pick flowers, swim, tell stories, count stones, bake, paint, play in the sun, ride a bike, "
    "make music"
)
DAYS = tuple(
    f"One {weather} {part}"
    for weather in ("sunny", "windy", "cold", "warm", "quiet", "fine", "foggy", "cool")
    for part in ("day", "morning")
)
LATER = (
    "Later that day",
    "After a while",
    "A little later",
    "Soon",
    "Not long after that",
    "That same day",
)
COLOURS = listed(
    "red, blue, yellow, green, purple, white, shiny, new, old, big, golden, pink, brown"
)
TOYS = listed(
    "ball, train, kite, swing, boat, drum, shovel, book, bucket, scooter, crown, rope, "
    "spinning top, bike, sled, hammock, pillow, tent, cushion, bow, car, robot"
)
PLAYS = listed(
    "climb a tree, fly a kite, build a sand castle, play hide and seek, pick berries, "
    "swim in the pond, draw a picture, bake cookies, look for shells, ride the bike, "
    "read a book, feed the ducks, catch bugs, build a hut, sing a song, roll down the hill, "
    "paint stones, plant a flower"
)

OPENINGS = (
    "Once upon a time, there was {a_hero} named {hero}. {He} lived in {a_house} house {near}.",
    "There once was {a_hero} called {hero}, who lived {near}.",
    "In {a_house} house {near} lived {a_hero} named {hero}.",
    "{hero} was {a_hero} who loved to {hobby}.",
    "{Near} lived {a_hero} named {hero}, who liked to {hobby}.",
)
FRIENDS = (
    "{His} best friend was {a_friend} named {friend}.",
    "{friend}, {a_friend}, was {his} best friend.",
    "{He} had a good friend, {a_friend} named {friend}.",
    "Next door lived {a_friend} named {friend}.",
    "{He} did everything together with {friend}, {a_friend}.",
)
TOGETHER = (
    "Once upon a time, {hero} and {friend} lived {near}. {hero} was {a_hero} and {friend} {a_friend}.",
    "{hero} was {a_hero}, and {friend} was {a_friend}. They were friends.",
    "{Near}, {a_hero} and {a_friend} shared {a_house} house. They were called {hero} and {friend}.",
)
"""Openings: of the hero, of the friend behind that, and of both at once."""


@dataclass(frozen=True)
class Cast:
    """Two friends and their world.

    Attributes:
        slots: What stands in the slots of templates.
        species: The animals among them, which nothing else in the story should be.
    """

    slots: dict[str, str]
    species: tuple[str, ...]


def _character(rng: random.Random) -> tuple[str, str, bool]:
    """Name, what they are, and whether she is female."""
    female = rng.random() < 0.5
    if rng.random() < 0.6:
        return pick(rng, GIRLS if female else BOYS), "girl" if female else "boy", female
    return pick(rng, SHE_ANIMALS if female else HE_ANIMALS), pick(rng, SPECIES), female


def draw_cast(rng: random.Random) -> Cast:
    """Draw who a story is about, their pronouns, and what they have and like."""
    hero, kind, female = _character(rng)
    friend, friend_kind, friend_female = _character(rng)
    while friend == hero:
        friend, friend_kind, friend_female = _character(rng)
    adjective = pick(rng, CHARACTERS)
    friend_adjective = pick(rng, CHARACTERS)
    while friend_adjective == adjective:
        friend_adjective = pick(rng, CHARACTERS)
    play = pick(rng, PLAYS)
    play2 = pick(rng, PLAYS)
    while play2 == play:
        play2 = pick(rng, PLAYS)
    near = pick(rng, PLACES)
    slots = {
        "hero": hero,
        "friend": friend,
        "a_hero": with_article(f"{adjective} {kind}"),
        "a_friend": with_article(f"{friend_adjective} {friend_kind}"),
        "he": "she" if female else "he",
        "He": "She" if female else "He",
        "him": "her" if female else "him",
        "his": "her" if female else "his",
        "His": "Her" if female else "His",
        "Fhe": "She" if friend_female else "He",
        "a_house": with_article(pick(rng, HOUSES)),
        "near": near,
        "Near": near.capitalize(),
        "hobby": pick(rng, HOBBIES),
        "Day": pick(rng, DAYS),
        "Later": pick(rng, LATER),
        "toy": f"{pick(rng, COLOURS)} {pick(rng, TOYS)}",
        "play": play,
        "play2": play2,
    }
    return Cast(slots, (kind, friend_kind))
